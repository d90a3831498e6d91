"""What people type in the studio, one module a noun. A form cleans and explains; the services decide."""
