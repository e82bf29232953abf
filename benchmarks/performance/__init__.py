"""How much memory and time sphisto takes: ``python -m benchmarks.performance --help`` says how to run it.

How it is kept comparable:

- What machines differ in cancels out: times are compared with other times of the same run, taken in turn in one
  process, and the middle of several rounds counts. Seconds and MB stand beside the ratios.
- Memory is the most that a process held (Linux's ``VmHWM``, reset after the libraries are loaded) above what it held
  then. What a measurement needs beforehand is made in another process. Libraries that are loaded later, arrays of the
  input, and pages of mapped files all count.
- Work of a network is that of its convolutions, counted by hand: two operations for each weight and each pixel it is
  applied to. Useful is what the cores of tiles need; the halo around them is work, too, but not useful.
"""
