"""Transformers that nobody has heard of: some come apart at the seams, some do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.transformer import TEXT, TOKENS, WIDTH, noise, share

BLOCKS = 3


def given() -> dict[str, Any]:
    """Image tokens [ROWS, TOKENS, WIDTH], text tokens [ROWS, TEXT, WIDTH], a time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {"hidden_states": noise(TOKENS, WIDTH), "words": noise(TEXT, WIDTH)} | share()


class Block(nn.Module):
    """Attention over all tokens, then a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.think = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden_states: Tensor, time: Tensor) -> Tensor:
        seen = self.look(hidden_states, hidden_states, hidden_states, need_weights=False)[0]
        return hidden_states + torch.tanh(self.think(seen + time[:, None, None]))


class Parts(nn.Module):
    """Blocks in a list of a usual name, of a class that diffusers does not know; a linear head."""

    block: type[nn.Module] = Block

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.blocks = nn.ModuleList(self.block() for _ in range(BLOCKS))
            self.enter, self.other = nn.Linear(WIDTH, WIDTH), Block()
            self.head = nn.Linear(WIDTH, WIDTH)


class Plain(Parts):
    """Block after block; between them residuals are added, as a ControlNet's are."""

    def forward(
        self,
        hidden_states: Tensor,
        words: Tensor,
        timestep: Tensor,
        residuals: list[Tensor] | None = None,
    ) -> Tensor:
        hidden_states = self.enter(hidden_states)
        for place, block in enumerate(self.blocks):
            hidden_states = block(hidden_states, timestep)
            if residuals is not None:
                hidden_states = hidden_states + residuals[place]
        return self.head(hidden_states)


class Writing(Block):
    def forward(self, hidden_states: Tensor, time: Tensor) -> Tensor:
        hidden_states += super().forward(hidden_states, time) - hidden_states
        return hidden_states


class Written(Plain):
    """Its blocks write into their own inputs."""

    block = Writing


class Interleaved(Parts):
    """Between its blocks another layer runs that is in no list, as in video models."""

    def forward(self, hidden_states: Tensor, words: Tensor, timestep: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_states = self.other(block(hidden_states, timestep), timestep)
        return self.head(hidden_states)


class Transposed(Parts):
    """Its blocks take [tokens, rows, width]."""

    def forward(self, hidden_states: Tensor, words: Tensor, timestep: Tensor) -> Tensor:
        turned = hidden_states.transpose(0, 1).contiguous()
        for block in self.blocks:
            turned = block(turned, timestep.mean()[None])
        return self.head(turned.transpose(0, 1))


class Joined(Parts):
    """Its text comes in front of the image after the second block."""

    def forward(self, hidden_states: Tensor, words: Tensor, timestep: Tensor) -> Tensor:
        for place, block in enumerate(self.blocks):
            if place == BLOCKS - 1:
                hidden_states = torch.cat([words, hidden_states], 1)
            hidden_states = block(hidden_states, timestep)
        return self.head(hidden_states[:, TEXT:])


class Pair(nn.Module):
    """Image and text tokens looked at together."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Block()

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, time: Tensor
    ) -> tuple[Tensor, Tensor]:
        joined = self.both(torch.cat([hidden_states, encoder_hidden_states], 1), time)
        image, text = joined.chunk(2, 1)
        return image, text


class Pairs(Parts):
    """As many text tokens as image tokens: a pair of equal shapes, in no known order."""

    block = Pair

    def forward(self, hidden_states: Tensor, words: Tensor, timestep: Tensor) -> Tensor:
        heard = hidden_states.flip(1)
        for block in self.blocks:
            hidden_states, heard = block(hidden_states, heard, timestep)
        return self.head(hidden_states)


class Unlisted(nn.Module):
    """Its blocks lie in no list."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Block(), Block()

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        return self.two(self.one(hidden_states, timestep), timestep)
