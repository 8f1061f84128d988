"""3. How each step is done: one file per stage; `table.py` lists them."""
