"""Other job queues, each at full durability and in the fastest set-up that it documents."""
