"""Reading CT, RTSTRUCT, RTPLAN and RTDOSE from any mix of files, and writing them."""
