"""Steps by which the schema came to be, run by Alembic. Nothing imports them: see `cai/db.py`."""
