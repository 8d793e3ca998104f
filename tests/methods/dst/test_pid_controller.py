import pytest

from tfsparse.methods.dst.pid_controller import PIDController


def test_golden_update():
    """An error of half the range: a PD term of 1/2, and a twentieth of it is added to the integral."""
    controller = PIDController(gain=1e-3, actual=0.1).updated(target=0.105, actual=0.1)
    assert controller.pd == pytest.approx(0.5)
    assert controller.integral == pytest.approx(0.025)
    assert controller.alpha == pytest.approx(1e-3 * 0.525)


def test_the_derivative_term_brakes_a_fast_rise():
    """0.1 more since the last update; twice that is subtracted from the error."""
    assert PIDController(gain=1e-3).updated(target=0.3, actual=0.1).pd == pytest.approx(0)
    assert PIDController(gain=1e-3).updated(target=0.105, actual=0.1).pd == -1


def test_the_gain_grows_while_the_pd_term_keeps_its_sign_and_shrinks_when_it_changes():
    assert PIDController(1e-3, pd=1.0).updated(0.5, 0.0).gain == pytest.approx(1.2214e-3, rel=1e-4)
    assert PIDController(1e-3, pd=-1.0).updated(0.5, 0.0).gain == pytest.approx(0.8187e-3, rel=1e-4)


def test_alpha_is_negative_where_there_are_too_many_zeros():
    assert PIDController(1e-3, actual=0.9).updated(target=0.8, actual=0.9).alpha < 0


def test_a_collapse_halves_the_gain():
    controller = PIDController(1e-3, integral=1.0, pd=1.0, actual=0.9, initial=0.1).updated(target=0.9, actual=0.0)
    assert controller == PIDController(5e-4, 0.0, 0.0, 0.0, 0.1)
    assert controller.alpha == 0


@pytest.mark.parametrize("gain", [0.1, 1.0, 10.0, 100.0])
def test_the_target_is_reached_whatever_the_gain_of_the_network(gain):
    """A network whose sparsity follows alpha late (momentum 0.9) and falls back by itself."""
    controller, sparsity, speed = PIDController(gain=5e-4), 0.0, 0.0
    for update in range(400):
        controller = controller.updated(0.9 * min(update / 300, 1), sparsity)
        for _ in range(10):
            speed = 0.9 * speed + 0.1 * (gain * controller.alpha * (1 - sparsity) - 1e-4)
            sparsity = min(max(sparsity + speed, 0.0), 1.0)
    assert sparsity == pytest.approx(0.9, abs=0.005)


def test_the_five_numbers_are_the_whole_state():
    controller = PIDController(1e-3, 0.5, 0.25, 0.75, 0.125)
    assert PIDController(*list(controller)).updated(0.9, 0.8) == controller.updated(0.9, 0.8)
