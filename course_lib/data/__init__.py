"""What the course learns from: `assets` fetches files and checks them, each other module reads one data set."""
