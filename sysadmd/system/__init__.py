"""What is asked of the machine itself, and its state as the topic `system_state`."""
