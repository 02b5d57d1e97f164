"""An encode bot for Discord, whole: commands, a queue, workers, and messages that keep up.

    DISCORD_TOKEN=… python -m examples.encode_bot

`/encode` takes a link or a file and a preset; its answer is the message of the job, with a
progress bar and a cancel button, up to the result. `/queue`, `/myjobs`, `/job` and `/cancel` do
what they say.

Kill it at any moment and start it again: it goes on. A download is not begun anew, parts that were
encoded are kept, the message is the same one, and the buttons below old messages work. README.md
lists the settings; encode-bot.service and Dockerfile run it for good.

Read it in this order: bot.py, commands.py, requests.py, buttons.py, work.py, download.py,
encode.py, plan.py, upload.py.
"""
