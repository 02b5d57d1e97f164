"""An encode queue, whole: a bot's requests, three stages of workers, the permanent log at the end.

    python -m examples.encode_queue                       made-up clips, everything on loopback
    python -m examples.encode_queue film.mkv https://…    your own files and links
    python -m examples.encode_queue --help

What happens: ffmpeg makes a few clips, a small HTTP server on 127.0.0.1 offers them, a bot queues
requests for them in `pandora-demo/pandora.db`, and the workers of each stage take every job through
download, encode and upload (HTTP PUT to the same server, which keeps the bytes).

Ctrl-C stops it; the same command again finishes what was left. One process at a time may work on a
database, and a lock file sees to that: workers here tell each other in memory which job is theirs.
Workers in several processes, by claims and leases: examples/pipeline.py and worker_loop.py.

Read it in this order: app.py, bot.py, workers.py, steps.py, resume.py, report.py.
"""
