"""Piano rolls: MIDI and canvases, fractal generators, likelihoods."""
