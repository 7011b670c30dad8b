"""A whole step of one leaf as one kernel, which reads and writes every array once.

XLA alone reads an encoded slot twice (its blocks' scales must be known before the first code is written), and decodes it into an array. In
a kernel a part of the leaf is brought near, its slots are decoded, the very stages of the rule run on it, and slots and parameter go
back: nothing else is moved. The stages are the ones that run elsewhere, so what a kernel computes is what they say.
"""

from adamx.kernels.leaf import Kernel as Kernel
from adamx.kernels.leaf import fits as fits
from adamx.kernels.leaf import per_group as per_group
