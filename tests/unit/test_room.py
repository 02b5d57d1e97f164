"""Waiting for room in a bounded queue."""

from __future__ import annotations

import asyncio
import time

import pytest

from pandora_db.drivers.room import Room


async def enter(room: Room, queue: list[int], number: int, seconds: float = 5.0) -> None:
    if not room.is_free(len(queue)):
        await room.wait(seconds)
    queue.append(number)


async def test_places_are_given_out_in_order_of_arrival() -> None:
    room, queue, seen = Room(3), list[int](), list[int]()
    tasks = [asyncio.create_task(enter(room, queue, number)) for number in range(20)]
    while len(seen) < 20:
        await asyncio.sleep(0)
        assert len(queue) <= 3
        seen += queue[:2]
        del queue[:2]
        room.wake(len(queue))
    await asyncio.gather(*tasks)

    assert seen == list(range(20))


async def test_a_place_of_a_cancelled_caller_goes_to_the_next() -> None:
    room, queue = Room(1), list[int]()
    await enter(room, queue, 0)
    first, second = (asyncio.create_task(enter(room, queue, number)) for number in (1, 2))
    await asyncio.sleep(0)
    queue.clear()
    room.wake(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    room.wake(0)
    await second

    assert queue == [2]
    assert not room.is_free(1)
    assert room.is_free(0)


async def test_waiting_ends_in_time() -> None:
    room, queue = Room(1), list[int]()
    await enter(room, queue, 0)

    with pytest.raises(TimeoutError):
        await enter(room, queue, 1, 0.01)
    room.wake(0)

    assert room.is_free(0)


async def test_a_long_line_costs_no_more_per_caller() -> None:
    async def serve(callers: int) -> float:
        room, queue = Room(10), list[int]()
        start = time.process_time()
        tasks = [asyncio.create_task(enter(room, queue, number)) for number in range(callers)]
        while not all(task.done() for task in tasks[-1:]):
            await asyncio.sleep(0)
            queue.clear()
            room.wake(0)
        await asyncio.gather(*tasks)
        return (time.process_time() - start) / callers

    assert await serve(20_000) < 10 * await serve(1_000)


async def test_when_there_will_be_no_room_all_are_told() -> None:
    room, queue = Room(1), list[int]()
    await enter(room, queue, 0)
    waiting = [asyncio.create_task(enter(room, queue, number)) for number in (1, 2)]
    await asyncio.sleep(0)

    room.refuse(RuntimeError("closed"))
    found = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(error) for error in found] == ["closed", "closed"]
    assert room.is_free(0)
