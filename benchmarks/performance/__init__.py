"""How much memory and time sphisto takes: ``python -m benchmarks.performance --help`` says how to run it.

- Times are compared with others of the same run, taken in turn in one process; the middle of several rounds counts.
- Memory is the most that a process held (Linux's ``VmHWM``, reset after the libraries are loaded) above what it held
  then. What a measurement needs beforehand is made in another process.
- Work of a network is that of its convolutions. Useful is what the cores of tiles need, not the halo around them.
"""
