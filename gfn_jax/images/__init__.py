"""Reading and writing of images and videos, their metadata, and folders of images."""
