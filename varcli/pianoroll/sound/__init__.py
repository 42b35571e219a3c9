"""Sound: MIDI played by a SoundFont, as the samples of a recording and as files."""
