"""The tiny model of simple SVG drawings: scenes, wordings, demonstrations, scores."""
