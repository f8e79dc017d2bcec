"""The kernel's power allocator by its manual (Documentation/driver-api/thermal/power_allocator.rst), in exact fractions
that are rounded where the kernel's integers round: temperatures mC, powers mW, 10 bits behind the point."""
import dataclasses
import math
from fractions import Fraction

ONE = 1024


def floor_fraction(x):
    """Down to a multiple of 1/1024."""
    return Fraction(math.floor(x * ONE), ONE)


@dataclasses.dataclass
class Controller:
    """Gains in mW per mC, as multiples of 1/1024."""
    k_po: Fraction
    k_pu: Fraction
    k_i: Fraction
    k_d: Fraction
    cutoff: int
    sustainable: int
    delay_ms: int
    err_integral: Fraction = Fraction(0)
    err_before: Fraction = Fraction(0)

    @classmethod
    def estimated(cls, sustainable, span, delay_ms):
        """Gains of a zone that gives none: span is from the switch-on to the desired temperature."""
        k_po, k_pu = (Fraction(n * sustainable * ONE // span, ONE) for n in (1, 2))
        return cls(k_po, k_pu, max(floor_fraction(k_pu / 10), Fraction(1, ONE)), Fraction(0), 0, sustainable, delay_ms)

    def step(self, err, most):
        """P, I and D terms, and the power that may be spent."""
        err = Fraction(err)
        p = floor_fraction((self.k_po if err < 0 else self.k_pu) * err)
        i = floor_fraction(self.k_i * self.err_integral)
        if err < self.cutoff:
            grown = i + floor_fraction(self.k_i * err)
            if abs(grown) < most:  # anti-windup: else neither the term nor the sum grows
                i = grown
                self.err_integral += err
        d = floor_fraction(self.k_d * (err - self.err_before))
        d = Fraction(int(d * ONE * ONE / self.delay_ms), ONE)  # towards zero
        self.err_before = err
        output = self.sustainable + math.floor(p + i + d)
        return p, i, d, min(max(output, 0), most)


def grants(wants, most, power):
    """In proportion to the wants; what is beyond an actor's most goes to those with room, in proportion to it."""
    total = sum(wants) or 1
    raw = [math.ceil(Fraction(w * power, total)) for w in wants]
    granted = [min(g, m) for g, m in zip(raw, most)]
    room = [m - g for m, g in zip(most, granted)]
    spare = min(sum(raw) - sum(granted), sum(room))
    if spare:
        granted = [g + math.floor(Fraction(r * spare, sum(room))) for g, r in zip(granted, room)]
    return granted
