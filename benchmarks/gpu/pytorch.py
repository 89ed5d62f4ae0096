# mypy: ignore-errors
"""The same blocks in PyTorch, compiled: what others' runs of this model are made of.

Written for comparison alone: modulated self-attention with rotary positions, cross-attention to text, picture and the
frame's audio, feed-forward; 30 of them, random weights, keys and values of text and picture made before.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.measure import Rows, Size, milliseconds
from stableavatar_jax.frames import IMAGE_TOKENS
from stableavatar_jax.models.flops import dit_flops

SLOT = 15


class Block(nn.Module):
    """One block, as `models/dit_block.py` has it."""

    def __init__(self, dim: int, ffn: int, heads: int):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / math.sqrt(dim))
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k, self.norm_cross_q = (nn.RMSNorm(dim, 1e-6) for _ in range(3))
        self.norm_cross = nn.LayerNorm(dim, 1e-6)
        self.cross_q, self.cross_o, self.k_audio, self.v_audio = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, ffn), nn.Linear(ffn, dim)

    def split(self, x: Tensor) -> Tensor:
        """Heads apart: `[B N L K]`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, e0, cos, sin, text_k, text_v, image_k, image_v, audio):
        """One block on `x [B L D]`."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation.float() + e0).unsqueeze(2).unbind(1)
        y = modulated(x, shift1, scale1)
        q, k = (rotated(self.split(a), cos, sin) for a in (self.norm_q(self.q(y)), self.norm_k(self.k(y))))
        y = F.scaled_dot_product_attention(q, k, self.split(self.v(y)))
        x = x + (self.o(y.transpose(1, 2).flatten(2)) * gate1).to(x.dtype)
        q = self.split(self.norm_cross_q(self.cross_q(self.norm_cross(x))))
        y = F.scaled_dot_product_attention(q, text_k, text_v) + F.scaled_dot_product_attention(q, image_k, image_v)
        frames = audio.shape[1]
        fold = lambda a: a.unflatten(-1, (self.heads, -1)).flatten(0, 1).transpose(1, 2)  # noqa: E731
        by_frame = q.unflatten(2, (frames, -1)).permute(0, 2, 1, 3, 4).flatten(0, 1)
        read = F.scaled_dot_product_attention(by_frame, fold(self.k_audio(audio)), fold(self.v_audio(audio)))
        y = y + read.unflatten(0, (-1, frames)).permute(0, 2, 1, 3, 4).flatten(2, 3)
        x = x + self.cross_o(y.transpose(1, 2).flatten(2))
        y = self.down(F.gelu(self.up(modulated(x, shift2, scale2)), approximate="tanh"))
        return x + (y * gate2).to(x.dtype)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without weights, scaled and shifted, in float32."""
    y = F.layer_norm(x.float(), x.shape[-1:], eps=1e-6)
    return (y * (1 + scale) + shift).to(x.dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbouring pairs turned, in float32."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


@torch.no_grad()
def main(size: Size, rows: Rows) -> None:
    """Compiled, with cuDNN's attention and with FlashAttention-2, one row and three; attention alone."""
    c, device = size.model.dit, "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, size.dtype)
    torch.manual_seed(0)
    blocks = [Block(c.dim, c.ffn_dim, c.heads).to(device, dtype) for _ in range(c.layers)]
    wait = (lambda _: torch.cuda.synchronize()) if device == "cuda" else (lambda _: None)
    normal = lambda *shape: torch.randn(*shape, device=device, dtype=dtype)  # noqa: E731
    head = c.dim // c.heads
    angle = torch.rand(size.tokens, head // 2, device=device)
    backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    backends = backends if device == "cuda" else {"math": SDPBackend.MATH}
    q = normal(1, c.heads, size.tokens, head)
    for name, backend in backends.items():
        with sdpa_kernel([backend, SDPBackend.MATH] if name == "cudnn" else backend):
            ms = milliseconds(lambda: F.scaled_dot_product_attention(q, q, q), wait, size.repeats)
        rows.add(f"pytorch attention {name}, forward", ms=ms, flop=4.0 * size.tokens**2 * c.dim)
    compiled = torch.compile(Block.forward, dynamic=False)
    for name, backend in backends.items():
        for count in (1, 3) if name == "cudnn" else (1,):
            inputs = (
                torch.randn(count, 6, c.dim, device=device), angle.cos(), angle.sin(),
                *(normal(count, c.heads, c.text_len, head) for _ in range(2)),
                *(normal(count, c.heads, IMAGE_TOKENS, head) for _ in range(2)),
                normal(count, size.frames, SLOT, c.dim),
            )  # fmt: skip
            x = normal(count, size.tokens, c.dim)

            def forward(x: Tensor = x, inputs: tuple = inputs) -> Tensor:
                for block in blocks:
                    x = compiled(block, x, *inputs)
                return x

            with sdpa_kernel([backend, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True):
                ms = milliseconds(forward, wait, size.repeats)
            work = dit_flops(c, size.latents, branches=count, audios=0, slot=SLOT)
            rows.add(f"pytorch blocks compiled {name}, {count} row{'s' * (count > 1)}", ms=ms, flop=work)
