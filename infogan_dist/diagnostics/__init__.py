"""What a user asks before and beside a run: doctor, debug, memory, bench."""
