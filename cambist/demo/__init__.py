"""The demo of ``cambist up --demo``: listings, funded users, bots that trade, and what the terminal shows of it."""
