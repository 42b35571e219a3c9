"""Commands of the microscopy family."""
