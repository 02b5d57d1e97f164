"""Waiting for room in a bounded queue."""

from __future__ import annotations

import asyncio
import time

import pytest

from pandora_db.drivers.room import Room


async def enter(room: Room, queue: list[int], number: int, seconds: float = 5.0) -> None:
    if not room.is_free:
        await room.wait(seconds)
    queue.append(number)


async def test_places_are_given_out_in_order_of_arrival() -> None:
    queue, seen = list[int](), list[int]()
    room = Room(queue, 3)
    tasks = [asyncio.create_task(enter(room, queue, number)) for number in range(20)]
    while len(seen) < 20:
        await asyncio.sleep(0)
        assert len(queue) <= 3
        seen += queue[:2]
        del queue[:2]
        room.wake()
    await asyncio.gather(*tasks)

    assert seen == list(range(20))


async def test_a_place_of_a_cancelled_caller_goes_to_the_next() -> None:
    queue = list[int]()
    room = Room(queue, 1)
    await enter(room, queue, 0)
    first, second = (asyncio.create_task(enter(room, queue, number)) for number in (1, 2))
    await asyncio.sleep(0)
    queue.clear()
    room.wake()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    room.wake()
    await second

    assert queue == [2]
    assert not room.is_free
    queue.clear()
    assert room.is_free


async def test_waiting_ends_in_time() -> None:
    queue = list[int]()
    room = Room(queue, 1)
    await enter(room, queue, 0)

    with pytest.raises(TimeoutError):
        await enter(room, queue, 1, 0.01)
    room.wake()

    queue.clear()
    assert room.is_free


async def test_a_long_line_costs_no_more_per_caller() -> None:
    async def serve(callers: int) -> float:
        queue = list[int]()
        room = Room(queue, 10)
        start = time.process_time()
        tasks = [asyncio.create_task(enter(room, queue, number)) for number in range(callers)]
        while not all(task.done() for task in tasks[-1:]):
            await asyncio.sleep(0)
            queue.clear()
            room.wake()
        await asyncio.gather(*tasks)
        return (time.process_time() - start) / callers

    assert await serve(20_000) < 10 * await serve(1_000)


async def test_when_there_will_be_no_room_all_are_told() -> None:
    queue = list[int]()
    room = Room(queue, 1)
    await enter(room, queue, 0)
    waiting = [asyncio.create_task(enter(room, queue, number)) for number in (1, 2)]
    await asyncio.sleep(0)

    room.refuse(lambda: RuntimeError("closed"))
    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(error) for error in found] == ["closed", "closed"]
    assert found[0] is not found[1]
    queue.clear()
    assert room.is_free


async def test_nobody_enters_between_a_place_and_the_one_it_was_promised_to() -> None:
    queue = list[int]()
    room = Room(queue, 2)
    await enter(room, queue, 0)
    await enter(room, queue, 1)
    first = asyncio.create_task(enter(room, queue, 2))
    await asyncio.sleep(0)
    queue.clear()
    room.wake()  # `first` is promised a place, and has not run yet

    later = asyncio.create_task(enter(room, queue, 3))
    assert not room.is_free
    await first
    await asyncio.sleep(0)
    room.wake()
    await later

    assert queue == [2, 3]
