"""Shape annotations for arrays, and the one alphabet they are written in.

`B` batch, `F` latent frames, `H` `W` latent rows and columns, `C` channels, `L` tokens, `A` audio tokens,
`N` heads, `K` head size, `D` width, `T` video frames, `S` sound samples. Annotations are checked under test
(`make test`), and cost nothing elsewhere. A training machine may lack jaxtyping: the names then annotate nothing.
"""

from jax import Array

try:
    from jaxtyping import Bool, Float, Int, Key, Num, Shaped, UInt8
except ImportError:  # a bare machine that only trains on precomputed records

    class _Anything:
        def __class_getitem__(cls, item):
            return item[0]

    Bool = Float = Int = Key = Num = Shaped = UInt8 = _Anything  # type: ignore[assignment,misc]

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Num", "Shaped", "UInt8"]
