"""The recipes that make tiny-sd again from nothing; run them in this order.

    python -m mindsd.assets.recipes.vae --out parts
    python -m mindsd.assets.recipes.text_encoder --out parts
    python -m mindsd.assets.recipes.latents --out parts
    torchrun --nproc-per-node 2 -m mindsd.assets.recipes.denoiser --out parts --threads 1
    python -m mindsd.assets.recipes.assemble --parts parts --out tiny-sd
    python -m mindsd.assets.recipes.evaluate --model tiny-sd

tiny-dit is made of the same parts, with a transformer in the denoiser's place:

    python -m mindsd.assets.recipes.dit --out parts
    python -m mindsd.assets.recipes.dit_assemble --parts parts --out tiny-dit

Those that train take --minutes, --resume and --device.
"""
