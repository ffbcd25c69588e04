"""From contours to planning target volumes: half livers, margins, junctions."""
