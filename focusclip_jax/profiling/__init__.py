"""`./launch.sh profile`: real training steps, traced, and one page that says where their time goes.

`run` is the verb. `steps` takes the steps, `trace` reads what the profiler wrote of them, `program` says what
each compiled instruction is, `summary` makes numbers of it all and names the bottleneck, `page` sets them.
"""
