"""One sweep over eight devices, and over two processes.

    python examples/sweep_on_a_mesh.py
    python examples/sweep_on_a_mesh.py --processes 2 --process 0 & python examples/sweep_on_a_mesh.py --processes 2 --process 1

The first makes eight devices of this machine's CPU; the second line starts two processes of four devices each, which find each other on
the loopback through `jax.distributed` and share the points of one sweep. Both print the same table. The network, 10-16-1, is Equinox's,
and learns scikit-learn's diabetes data. (Needs equinox.)
"""

import equinox as eqx
import experiment
import jax
import jax.numpy as jnp
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

import adamx
from adamx import sweep


def task():
    """Mean squared error on 300 patients in batches of 30; evaluated on the other 142."""
    x, y = (jnp.float32(scale(part)) for part in load_diabetes(return_X_y=True))

    def network(key):
        return eqx.nn.MLP(10, "scalar", width_size=16, depth=1, activation=jnp.tanh, key=key)

    # An Equinox model is a tree of arrays, which are trained, and of functions, which are not.
    static = eqx.filter(network(jax.random.key(0)), eqx.is_array, inverse=True)

    def init(key):
        return eqx.filter(network(key), eqx.is_array)

    def loss(params, batch):
        return jnp.mean((jax.vmap(eqx.combine(params, static))(batch[0]) - batch[1]) ** 2)

    return sweep.arrays(init, loss, (x[:300], y[:300]), 30, lambda p: {"validation": loss(p, (x[300:], y[300:]))})


def start(processes, process, port):
    """Makes the devices: eight, together."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8 // processes)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=processes, process_id=process)


def main(arguments=None):
    """The command."""
    parser = experiment.Parser(__doc__)
    parser.add_argument("--processes", type=experiment.number(), default=1)
    parser.add_argument("--process", type=experiment.number(least=0), default=0, help="which of them this is")
    parser.add_argument("--port", type=experiment.number(least=1024, most=65_535), default=12345)
    parser.add_argument("--steps", type=experiment.number(), default=200)
    args = parser.parse_args(arguments)
    start(args.processes, args.process, args.port)
    mesh = jax.make_mesh((jax.device_count(),), ("lanes",))
    space = sweep.space(adamx.adam, learning_rate=sweep.log(1e-4, 1), b2=sweep.log_complement(0.9, 0.999))
    result = sweep.run(task(), space.grid(learning_rate=16, b2=3), steps=args.steps, seeds=3, mesh=mesh)
    if jax.process_index() == 0:
        print(f"{result}; {jax.device_count()} devices, {jax.process_count()} processes")
        for best in result.top(5, metric="validation"):
            print(f"{best.mean:.5f} ± {best.sd:.5f}  {best.code()}")


if __name__ == "__main__":
    main()
