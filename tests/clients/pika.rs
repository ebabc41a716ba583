//! The Python client pika: installed into a venv of its own, run through the story and the tutorial.
