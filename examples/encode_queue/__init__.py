"""An encode queue, whole: a bot's requests, three stages of workers, the permanent log at the end.

    python -m examples.encode_queue                       made-up clips, everything on loopback
    python -m examples.encode_queue film.mkv https://…    your own files and links
    python -m examples.encode_queue --help

What happens: ffmpeg makes a few clips, a small HTTP server on 127.0.0.1 offers them, and a bot
queues requests for them in `pandora-demo/pandora.db`. This process downloads and uploads (HTTP PUT
to the same server, which keeps the bytes); the encoders are processes of their own. One of them is
killed with SIGKILL in the middle of an encode: its lease runs out, and another encoder goes on from
the checkpoint, with the segments that were encoded and without a second download.

Ctrl-C stops it; the same command again finishes what was left. It may run several times at once, on
one folder too: a job has one worker, whichever process that is in. `demo.log` in the folder holds
what the encoders and the server did. (Not every version of SQLite is safe with several processes
on one file: docs/connect.md.)

Read it in this order: app.py, bot.py, transfers.py, encode.py, segments.py, workers.py, follow.py,
accident.py, report.py.
"""
