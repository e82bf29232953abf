"""How much memory and time sphisto takes: ``python -m benchmarks.performance --help`` says how to run it.

- What machines differ in cancels out: times are compared with other times of the same run, taken in turn in one
  process, and the middle of several rounds counts. Seconds and MB stand beside the ratios.
- Memory is the most that a process held (Linux's ``VmHWM``, reset after the libraries are loaded) above what it held
  then. What a measurement needs beforehand is made in another process.
- Work of a network is that of its convolutions: two operations for each weight and each pixel it is applied to. Useful
  is what the cores of tiles need; the halo around them is work, too, but not useful.
"""
