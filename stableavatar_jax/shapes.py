"""Shape annotations for arrays, and the one alphabet they are written in.

`B` batch, `F` latent frames, `H` `W` latent rows and columns, `C` channels, `L` tokens, `A` audio tokens,
`N` heads, `K` head size, `D` width, `T` video frames, `S` sound samples. Annotations are checked under test
(`make test`), and cost nothing elsewhere.
"""

from jaxtyping import Array, Bool, Float, Int, Key, Num, Shaped, UInt8

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Num", "Shaped", "UInt8"]
