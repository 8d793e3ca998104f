import pytest

from tfsparse.methods.dst.pid_controller import PIDController


def test_golden_step():
    """An error of half the tolerance: half a push, and a twentieth of it stays."""
    control = PIDController(scale=1e-3, actual=0.1).next(wanted=0.105, actual=0.1)
    assert control.push == pytest.approx(0.5)
    assert control.integral == pytest.approx(0.025)
    assert control.alpha == pytest.approx(1e-3 * 0.525)


def test_brakes_while_the_sparsity_rises_fast():
    """0.1 more since the last look; twice that counts against the error."""
    assert PIDController(scale=1e-3).next(wanted=0.3, actual=0.1).push == pytest.approx(0)
    assert PIDController(scale=1e-3).next(wanted=0.105, actual=0.1).push == -1


def test_pushes_that_repeat_themselves_grow_and_opposite_ones_shrink():
    assert PIDController(1e-3, push=1.0).next(0.5, 0.0).scale == pytest.approx(1.2214e-3, rel=1e-4)
    assert PIDController(1e-3, push=-1.0).next(0.5, 0.0).scale == pytest.approx(0.8187e-3, rel=1e-4)


def test_too_many_zeros_pull_down():
    assert PIDController(1e-3, actual=0.9).next(wanted=0.8, actual=0.9).alpha < 0


def test_a_collapse_halves_the_scale():
    control = PIDController(1e-3, integral=1.0, push=1.0, actual=0.9, start=0.1).next(wanted=0.9, actual=0.0)
    assert control == PIDController(5e-4, 0.0, 0.0, 0.0, 0.1)
    assert control.alpha == 0


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0, 100.0])
def test_finds_a_plant_of_unknown_gain(gain):
    """A network whose sparsity follows alpha late (momentum 0.9) and falls back by itself."""
    control, sparsity, speed = PIDController(scale=5e-4), 0.0, 0.0
    for look in range(400):
        control = control.next(0.9 * min(look / 300, 1), sparsity)
        for _ in range(10):
            speed = 0.9 * speed + 0.1 * (gain * control.alpha * (1 - sparsity) - 1e-4)
            sparsity = min(max(sparsity + speed, 0.0), 1.0)
    assert sparsity == pytest.approx(0.9, abs=0.005)


def test_five_numbers_are_all_of_it():
    control = PIDController(1e-3, 0.5, 0.25, 0.75, 0.125)
    assert PIDController(*list(control)).next(0.9, 0.8) == control.next(0.9, 0.8)
