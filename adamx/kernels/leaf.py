"""The kernel of one leaf: tiles of it go through the line of stages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from adamx.blocks import BLOCK, Blocks, is_blocks
from adamx.kernels.views import positions, view_of
from adamx.leaves import Leaf, Part, Plan, per_leaf
from adamx.meshes import varying
from adamx.randomness import Dither
from adamx.wiring import hindrance


@dataclasses.dataclass(frozen=True)
class Kernel:
    """That leaves are worked on by kernels where they can be.

    Attributes:
      interpret: Whether the kernel is run by Pallas' interpreter, slowly and on any backend, to be tested; else it is compiled where the
        backend has one, and XLA does the work elsewhere.
      explicit: Whether leaves without an encoded slot are worked on so too.
    """

    interpret: bool = False
    explicit: bool = False


def per_group(plan, part, dtype, stages, scalars, t, leaves):
    """The work on each of `leaves`, which are alike: `per_leaf`, or a kernel's."""
    if plan.kernel is None:
        return [per_leaf(plan, part, dtype, stages, scalars, t, leaf) for leaf in leaves]
    return [_run(plan, dtype, stages, scalars, t, leaf) for leaf in leaves]


def fits(plan, line, dtype, leaf):
    """Whether the kernel takes this leaf: elementwise float32 arithmetic, and arrays that are laid out as the leaf."""
    shape = leaf.g.shape
    # A stage with sums cuts the line for all leaves, also where it does not act.
    if dtype != jnp.float32 or plan.wants_signal or view_of(shape) is None or any(stage.sums for stage in line):
        return False
    acting = [stage for stage, active in zip(line, plan.active, strict=True) if active is not False]
    kept = [leaf.stored[slot.name] for stage in acting for slot in stage.slots]
    return all(hindrance(stage) is None for stage in acting) and all(
        (s.codes if is_blocks(s) else s).shape == shape for s in kept
    )


def _run(plan, dtype, stages, scalars, t, leaf):
    """`per_leaf` of the whole line, by a kernel. Under `vmap`, without."""
    plain = functools.partial(per_leaf, plan, Part(0, len(stages)), dtype)

    @custom_vmap
    def work(stages, scalars, t, leaf):
        if plan.kernel.interpret:
            return _call(True, plan, dtype, stages, scalars, t, leaf)
        on_tpu = functools.partial(_call, False, plan, dtype)
        return jax.lax.platform_dependent(stages, scalars, t, leaf, tpu=on_tpu, default=plain)

    @work.def_vmap
    def batched(size, is_batched, *args):
        out = jax.vmap(plain, in_axes=jax.tree.map(lambda b: 0 if b else None, tuple(is_batched)))(*args)
        return out, jax.tree.map(lambda _: True, out)

    return work(stages, scalars, t, leaf)


def _call(interpret, plan, dtype, stages, scalars, t, leaf):
    from jax.experimental import pallas as pl  # here, as importing it takes long

    view, shape = view_of(leaf.g.shape), leaf.g.shape
    (rows, columns), last = view.tile, view.rows % view.tile[0]
    acting = {
        slot.name for stage, on in zip(stages, plan.active, strict=True) if on is not False for slot in stage.slots
    }
    slots = {name: stored for name, stored in leaf.stored.items() if name in acting}
    extras = {name: x for name, x in leaf.extras.items() if x is not None}
    numbers, of_numbers = jax.tree.flatten((stages, scalars, t))
    dithers = {name: dither.of(leaf.g) for name, dither in leaf.keys.items()}
    bits, of_bits = jax.tree.flatten({name: (d.key, d.shift) for name, d in dithers.items()})
    leaf_arrays, of_leaf = jax.tree.flatten((leaf.g, leaf.p, extras, slots))
    wide = [view.of(a) for a in leaf_arrays]

    def body(floats, ints, *refs):
        ins, outs = refs[: len(wide)], refs[len(wide) :]
        start = pl.program_id(0), pl.program_id(1) * rows, pl.program_id(2) * columns
        here = positions(view, start, (rows, columns)) if bits else None
        line, k, step = jax.tree.unflatten(of_numbers, [floats[0, i] for i in range(len(numbers))])
        words = [ints[0, i].astype(jnp.uint32) for i in range(len(bits))]
        keys = {name: Dither(*d, here) for name, d in jax.tree.unflatten(of_bits, words).items()}
        g, p, further, stored = jax.tree.unflatten(of_leaf, [ref[...] for ref in ins])
        storages = plan.storages
        if last:
            inside = start[1] + jax.lax.broadcasted_iota(jnp.int32, (rows, columns), 0) < view.rows
            storages = tuple((name, _Within(storage, inside)) for name, storage in storages)
        tile = Leaf(g, p, stored, keys, leaf.extras | further)
        out, new, _ = per_leaf(
            Plan(plan.active, storages, plan.rounding, False), Part(0, len(line)), dtype, line, k, step, tile
        )
        for ref, value in zip(outs, [out, *jax.tree.leaves({name: new[name] for name in slots})], strict=True):
            ref[...] = value

    def spec(a):
        # Scales have a row where the leaf has a block of them.
        of_blocks = a.shape[1] != view.rows
        return pl.BlockSpec((None, rows // BLOCK if of_blocks else rows, columns), lambda i, j, k: (i, j, k))

    specs, n_slots = [spec(a) for a in wide], len(jax.tree.leaves(slots))
    kept = wide[len(wide) - n_slots :]
    new_p = plan.rounding is not None
    result = wide[1] if new_p else wide[0]
    scalar = pl.BlockSpec(memory_space=_scalar_memory(interpret))
    aliases = {2 + len(wide) - n_slots + i: 1 + i for i in range(n_slots)} | ({3: 0} if new_p else {})
    out, *new = pl.pallas_call(
        body,
        grid=(view.stack, pl.cdiv(view.rows, rows), pl.cdiv(view.columns, columns)),
        in_specs=[scalar, scalar, *specs],
        out_specs=[specs[1] if new_p else specs[0], *specs[len(wide) - n_slots :]],
        out_shape=[_like(a, leaf.g) for a in (result, *kept)],
        input_output_aliases=aliases,
        interpret=interpret,
    )(_row(numbers, jnp.float32), _row([jax.lax.bitcast_convert_type(b, jnp.int32) for b in bits], jnp.int32), *wide)
    stored = jax.tree.unflatten(jax.tree.structure(slots), new)
    stored = {name: _back(view, stored[name], slots[name], shape) for name in slots}
    return view.back(out, shape), leaf.stored | stored, None


def _back(view, new, old, shape):
    if not is_blocks(new):
        return view.back(new, shape)
    scales = old.scales.shape
    return Blocks(view.back(new.codes, shape), view.back(new.scales, scales))


def _row(numbers, dtype):
    """Numbers as one row, of one zero if there is none."""
    return jnp.stack([jnp.asarray(x, dtype) for x in numbers] or [jnp.zeros([], dtype)])[None]


def _scalar_memory(interpret):
    if interpret:
        return None
    from jax.experimental.pallas import tpu

    return tpu.SMEM


def _like(a, g):
    return jax.ShapeDtypeStruct(a.shape, a.dtype, **({"vma": varying(g)} if varying(g) else {}))


@dataclasses.dataclass(frozen=True, eq=False)
class _Within:
    """A storage in a tile that reaches beyond the leaf: what is read there is anything, and does not count."""

    storage: object
    inside: jax.Array

    def decode(self, stored, dtype):
        return self.storage.decode(stored, dtype)

    def encode(self, x, stored, dither):
        return self.storage.encode(jnp.where(self.inside, x, 0), stored, dither)
