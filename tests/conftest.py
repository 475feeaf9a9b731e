"""The strict session: 8 fake CPU devices, no silent promotion, annotations checked while the tests run."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

PACKAGES = ("aggregation", "algorithms", "core", "engine", "kernels")  # data names its own type with Self, which the hook cannot read
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float where one is asked for
install_import_hook([f"fedjax_edu.{package}" for package in PACKAGES], CHECKER)
