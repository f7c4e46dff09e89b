"""Other methods for one T5 on many tasks, as layers for the same command.

Each peer gets every token's task from `conditioning.task_of_tokens`, keeps its
variables in its own scope below those of vanilla T5, and consists of one file
here and one or more in operative_configs/peers.
"""
