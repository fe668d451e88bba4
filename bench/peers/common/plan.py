"""Which world and which questions a run is about: a few numbers that every server is given and makes the same of."""

from typing import NamedTuple

from bench.peers.common.world import Question, World, ask, make_world


class Plan(NamedTuple):
    """
    The numbers.

    Attributes:
        now: Moment of the world, seconds since 1970.
        planted: The peers forget every refusal: a difference that the comparison must find.
    """

    seed: int
    now: int
    patients: int
    questions: int
    planted: bool = False

    @property
    def text(self) -> str:
        """The plan as one word of a command line."""
        return ",".join(str(int(each)) for each in self)

    @classmethod
    def read(cls, text: str) -> "Plan":
        """Read what ``text`` wrote."""
        *numbers, planted = (int(each) for each in text.split(","))
        return cls(*numbers, planted=bool(planted))

    def world(self) -> World:
        """Return the world."""
        return make_world(self.seed, self.now, self.patients)

    def peers_world(self) -> World:
        """Return the world that the peers are given: the same, unless a difference is planted."""
        world = self.world()
        return without_refusals(world) if self.planted else world

    def asked(self) -> list[Question]:
        """Return the questions."""
        return ask(self.world(), self.seed + 1, self.questions)


def without_refusals(world: World) -> World:
    """Return the world in which nobody ever refused anything."""
    return world._replace(
        patients={
            patient.id: patient._replace(documents=tuple(each for each in patient.documents if not each.refuses))
            for patient in world.patients.values()
        }
    )
