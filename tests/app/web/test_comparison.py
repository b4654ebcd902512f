"""The same image with all of its work and with less."""

from __future__ import annotations

import asyncio
import math

from mindsd.app.server.image_bodies import ImageBody
from mindsd.app.server.refusal import DRAINING
from mindsd.app.web.comparison import PHASES, Comparison
from mindsd.app.web.studio import Studio
from mindsd.quality import psnr, ssim

BODY = ImageBody.model_validate({"prompt": "a", "size": "64x64", "steps": 12, "seed": 3})


def test_it_draws_both_and_says_how_alike_they_are(in_studio):
    async def body(studio: Studio):
        own, phases = Comparison(BODY, "fast"), set()
        await own.run(studio.service, "draws", lambda: phases.add(own.phase))
        assert own.is_done and phases == {0, 1, 2} and len(PHASES) == 3
        plain, fast = own.images
        assert own.psnr == psnr(fast, plain) < math.inf and own.ssim == ssim(fast, plain) < 1
        assert all(seconds > 0 for seconds in own.seconds) and own.saved < 1
        return own

    own = in_studio(body)
    again = in_studio(lambda studio: _drawn(studio, BODY))
    assert again.tobytes() == own.images[0].tobytes()


async def _drawn(studio: Studio, body: ImageBody):
    own = Comparison(body, "lossless")
    await own.run(studio.service, "draws", lambda: None)
    assert own.psnr == math.inf and own.ssim == 1
    return own.images[0]


def test_it_can_be_cancelled_at_any_time(in_studio):
    async def body(studio: Studio):
        early = Comparison(BODY, "fast")
        early.cancel()
        await early.run(studio.service, "draws", lambda: None)
        late = Comparison(BODY.model_copy(update={"steps": 900}), "fast")
        running = asyncio.create_task(late.run(studio.service, "draws", lambda: None))
        while late.phase < 1 or late.job is None:
            await asyncio.sleep(0.01)
        late.cancel()
        await running
        for own in (early, late):
            assert own.over and not own.is_done and own.trouble == "the job was cancelled"
        assert studio.service.taken == 0

    in_studio(body)


def test_what_the_model_cannot_do_is_its_trouble(in_studio):
    async def body(studio: Studio):
        own = Comparison(BODY.model_copy(update={"scheduler": "Nope"}), "fast")
        await own.run(studio.service, "draws", lambda: None)
        assert own.over and "Nope" in str(own.trouble)
        studio.service.draining = True
        late = Comparison(BODY, "fast")
        await late.run(studio.service, "draws", lambda: None)
        assert late.trouble == DRAINING.message

    in_studio(body)
