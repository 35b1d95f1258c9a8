"""What the services are compared with: each is as small as the job allows, and stores nothing unless it says so."""
