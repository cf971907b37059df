"""The executor: the separate process that alone spawns commands, and outlives the server that asks for them."""
