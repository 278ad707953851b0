"""The HTTP service: OpenAI's calls, and the constitutional ones. Start from `app.create_app`."""
