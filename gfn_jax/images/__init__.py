"""Files of images and videos: reading, writing, metadata, folders."""
