"""Imported before JAX: the configuration that the README recommends on CPU, unless XLA_FLAGS is set; `XLA_FLAGS= ` leaves XLA as it is."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion")
