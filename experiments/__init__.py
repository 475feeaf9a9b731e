"""Programs that use the public API of fedjax_edu."""
