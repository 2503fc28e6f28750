"""Finding ranks that hang, without MPI: messages are lists, and time is a number."""

import signal
from types import SimpleNamespace

import pytest

from minialex.parallel import roll_call
from minialex.parallel.roll_call import Hanging, RollCall


class Ranks:
    """RollCalls on `hosts`, whose clock stands still unless `wait` moves it."""

    def __init__(self, monkeypatch, hosts, may_be_lost=False):
        self.now, self.box, self.asked, self.killed = 1000.0, {}, [], []
        monkeypatch.setattr(roll_call.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(roll_call.time, "sleep", self.sleep)
        monkeypatch.setattr(roll_call.os, "kill", lambda *how: self.killed.append(how))
        monkeypatch.setattr(roll_call, "_is_rank", lambda process, number: process == 70 + number)
        self.all = []
        for rank in range(len(hosts)):
            comm = Comm(self, rank, len(hosts))
            mpi = SimpleNamespace(COMM_WORLD=comm, ERRORS_RETURN=None, Exception=OSError)
            self.all.append(RollCall(mpi, may_be_lost))
            self.all[-1].processes = [(host, 70 + i) for i, host in enumerate(hosts)]
            self.all[-1].timeout = 60.0
            self.all[-1].begin()

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, seconds, ranks):
        """These ranks wait, and look as often as they do in MPI's waits."""
        until = self.now + seconds
        while self.now < until:
            for rank in ranks:
                self.all[rank].look()
            self.now += 0.06


class Comm:
    def __init__(self, ranks, rank, size):
        self.ranks, self.rank, self.size = ranks, rank, size

    def Dup(self):
        return self

    def Set_errhandler(self, handler):
        pass

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Isend(self, data, dest, tag):
        if tag == roll_call._QUESTION:
            self.ranks.asked.append((self.rank, dest))
        self.ranks.box.setdefault((self.rank, dest, tag), []).append(data.copy())

    def Iprobe(self, source, tag):
        return bool(self.ranks.box.get((source, self.rank, tag)))

    def Recv(self, into, source, tag):
        into[:] = self.ranks.box[source, self.rank, tag].pop(0)


def test_ranks_that_all_wait_are_not_named(monkeypatch):
    ranks = Ranks(monkeypatch, ["a"] * 3)
    ranks.wait(200, [0, 1, 2])
    assert len(ranks.asked) == 6  # one rank asks the two others, every minute


def test_a_rank_that_comes_in_time_is_not_named(monkeypatch):
    ranks = Ranks(monkeypatch, ["a"] * 3)
    ranks.wait(63, [0, 1])
    ranks.all[2].begin()
    ranks.wait(30, [0, 1, 2])


def test_a_rank_that_hangs_is_named(monkeypatch):
    ranks = Ranks(monkeypatch, ["a", "a", "b"])
    ranks.wait(59, [0, 2])
    with pytest.raises(Hanging) as found:
        ranks.wait(10, [0, 2])
    assert found.value.numbers == [1]


def test_a_rank_that_began_to_wait_later_answers_too(monkeypatch):
    ranks = Ranks(monkeypatch, ["a"] * 3)
    ranks.wait(55, [0])
    ranks.all[2].begin()
    with pytest.raises(Hanging) as found:
        ranks.wait(20, [0, 2])
    assert found.value.numbers == [1]


def test_ranks_that_are_lost_are_not_asked(monkeypatch):
    ranks = Ranks(monkeypatch, ["a"] * 3, may_be_lost=True)
    for one in ranks.all:
        one.present = [0, 2]
    ranks.wait(100, [0, 2])
    assert ranks.asked
    assert all(1 not in pair for pair in ranks.asked)


@pytest.mark.parametrize("hosts", ["aaa", "baa"])  # by the one that asks, or by another
def test_a_rank_that_hangs_is_killed_if_the_others_can_go_on(monkeypatch, hosts):
    ranks = Ranks(monkeypatch, hosts, may_be_lost=True)
    ranks.wait(70, [0, 1])
    assert ranks.killed == [(72, signal.SIGKILL)]
    with pytest.raises(Hanging):  # it is still there
        ranks.wait(120, [0, 1])


def test_nobody_can_end_the_only_rank_of_a_machine(monkeypatch):
    ranks = Ranks(monkeypatch, "aab", may_be_lost=True)
    with pytest.raises(Hanging):
        ranks.wait(70, [0, 1])
    assert not ranks.killed


def test_another_process_with_its_number_is_left_alone(monkeypatch):
    ranks = Ranks(monkeypatch, "aaa", may_be_lost=True)
    monkeypatch.setattr(roll_call, "_is_rank", lambda process, number: False)
    with pytest.raises(Hanging):
        ranks.wait(200, [0, 1])
    assert not ranks.killed


def test_ranks_that_fail_for_the_same_reason(monkeypatch):
    ranks = Ranks(monkeypatch, "aaa")
    assert ranks.all[2].failed("no data") == (False, True)  # the others did not say so in time
    assert ranks.all[1].failed("no data") == (False, True)
    assert ranks.all[0].failed("no data") == (True, True)


def test_a_reason_with_a_name_that_is_no_character_is_told(monkeypatch):
    ranks = Ranks(monkeypatch, "aa")
    assert ranks.all[1].failed("caf\udce9/x.jpg cannot be read") == (False, True)
    assert ranks.all[0].failed("caf\udce9/x.jpg cannot be read") == (True, True)


def test_a_rank_that_fails_for_its_own_reason(monkeypatch):
    ranks = Ranks(monkeypatch, "aaa")
    ranks.all[0].failed("no data")
    assert ranks.all[1].failed("no data") == (False, False)
    assert ranks.all[2].failed("no disk") == (False, True)
