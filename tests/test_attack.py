"""A sample of the attacks of `make attack` is repelled; and each kind of them gets in where its door is left open."""

import pytest

from attack import ATTACKS, commands, credentials, encryption, fleet, texts
from attack.bench import Bench
from device_folder import Device
from dormouse.signing import Signer
from sampling import some

pytestmark = pytest.mark.xdist_group("attack")


@pytest.fixture(scope="module")
def bench():
    with Bench() as made:
        yield made


@pytest.mark.parametrize("one", some(ATTACKS, 8, "attack"), ids=[one.name for one in ATTACKS])
def test_attack_is_repelled(bench, one):
    outcome = one.run(bench)
    assert not outcome.let_in, outcome.seen
    assert outcome.seen.isprintable()


def test_groups_are_all_there():
    assert {one.run.__module__ for one in ATTACKS} == {
        module.__name__ for module in (encryption, credentials, commands, fleet, texts)
    }


@pytest.mark.proof
def test_a_server_that_is_believed_gets_to_read(bench):
    """Else the attacks on TLS would prove nothing."""
    assert encryption.right_certificate(bench).let_in


def test_a_stolen_relay_credential_commands_a_device_without_a_key(bench, monkeypatch):
    """Else the attacks on signatures would prove nothing."""
    assert credentials.stolen_relay(bench).let_in

    def unsigned(bench: Bench) -> tuple[Device, str, Signer, str]:
        device = bench.device()
        return (
            device,
            bench.meet(device),
            Signer("00" * 32, device.config["id"]),
            f"dormouse/{device.config['id']}/down/cmd",
        )

    monkeypatch.setattr(commands, "_victim", unsigned)
    assert commands.try_forged(bench).let_in


def test_a_broker_without_rights_lets_everybody_in():
    """Else the attacks at the broker would prove nothing."""
    with Bench(loose=True) as bench:
        for run in (
            credentials.try_read_commands,
            credentials.try_write_results,
            credentials.try_take_over,
            credentials.try_fence,
            credentials.try_publisher_without_rights,
            fleet.without_rights_or_key,
        ):
            assert run(bench).let_in, run.__name__


def test_a_secret_in_a_log_is_found(bench):
    bench.said.append(f"dormouse: wrong password {next(iter(bench.secrets))}")
    try:
        assert texts.where(bench) == ["the relay's password in what was printed"]
    finally:
        bench.said.pop()
