"""The CT, the structures and the case; contours to partial-volume masks; HU to density; TG-263 names."""
