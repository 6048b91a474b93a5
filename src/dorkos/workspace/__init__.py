"""What lies in a project folder: directories, files, git, slash commands, transcripts. It changes nothing."""
