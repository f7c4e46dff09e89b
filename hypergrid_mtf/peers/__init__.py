"""Other ways to let one T5 serve many tasks, as layers under the same command.

Each peer reads the task of every token by `conditioning.task_of_tokens`, has
its variables in a scope of its own below those of vanilla T5, and is one file
here and one or more in operative_configs/peers.
"""
