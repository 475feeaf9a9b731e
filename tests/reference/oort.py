"""Oort's bookkeeping as the paper writes it, one client after another; what is random is left to the caller."""

import math


class Oort:
    """Utilities and last rounds of the clients that took part so far."""

    def __init__(self, size: int, *, exploration=0.9, decay=0.98, least=0.2, cutoff=0.95, seconds=None, deadline=None, penalty=2.0):
        self.size, self.exploration, self.decay, self.least, self.cutoff = size, exploration, decay, least, cutoff
        self.seconds, self.deadline, self.penalty = seconds, deadline, penalty
        self.statistical, self.last, self.round = {}, {}, 1

    def utility(self, client: int) -> float:
        """Statistical utility, with what grows with its age, times what is lost by being late."""
        value = self.statistical[client] + math.sqrt(0.1 * math.log(self.round) / self.last[client])
        late = self.deadline is not None and self.seconds[client] > self.deadline
        return value * (self.deadline / self.seconds[client]) ** self.penalty if late else value

    def groups(self, clients: list[int]) -> tuple[int, set[int], set[int]]:
        """(seats of new clients, who may fill them, who may fill the others) among the clients that have examples."""
        known, unknown = [c for c in clients if c in self.last], [c for c in clients if c not in self.last]
        new = round(max(self.least, self.exploration * self.decay ** (self.round - 1)) * self.size)
        new = min(new, len(unknown))
        new = max(new, self.size - len(known))
        old = self.size - new
        ranked = sorted((self.utility(c) for c in known), reverse=True)
        return new, set(unknown), {c for c in known if old and self.utility(c) >= self.cutoff * ranked[old - 1]}

    def learn(self, found: dict[int, tuple[float, int]]) -> None:
        """The mean squared loss and the number of examples of each client that took part."""
        for client, (square, examples) in found.items():
            self.statistical[client], self.last[client] = examples * math.sqrt(square), self.round
        self.round += 1
