"""Makes objects with methods and attributes, as simulations do."""


class Particle:
    def __init__(self, place: int) -> None:
        self.place, self.speed = place, 1

    def step(self) -> None:
        self.place = (self.place + self.speed) % 997
        self.speed += self.place & 1


def work(count: int) -> int:
    particle = Particle(count)
    for _ in range(count):
        particle.step()
    return particle.place


def items(scale: float = 1.0) -> list[int]:
    return [int(150_000 * scale) + number for number in range(24)]
