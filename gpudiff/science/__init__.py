"""Stages, noun in, noun out: calibrate, psf, match, difference, detect, associate, alert."""
