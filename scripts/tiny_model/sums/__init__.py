"""The tiny model of word problems: templates, problems, demonstrations, scores."""
