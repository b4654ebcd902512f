"""Do less between steps: most of a denoiser's work is forecast from the steps before."""
